"""Colours that stay apart for every common kind of colour vision, light and dark."""

from types import MappingProxyType

#: M. Okabe and K. Ito, 2002. Always beside a sign, a word or a shape.
BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, GRAY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#56B4E9",
    "#CC79A7",
    "#7F8790",
)
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)

THEME = MappingProxyType(
    {
        "theme.baseRadius": "0.3rem",
        "theme.baseFontSize": 16,
        "theme.light.primaryColor": "#005A8C",
        "theme.light.backgroundColor": "#FFFFFF",
        "theme.light.secondaryBackgroundColor": "#F1F4F7",
        "theme.light.textColor": "#16202A",
        "theme.light.borderColor": "#C9D1D9",
        "theme.dark.primaryColor": "#7CC4EE",
        "theme.dark.backgroundColor": "#12171C",
        "theme.dark.secondaryBackgroundColor": "#1D252D",
        "theme.dark.textColor": "#EDF1F5",
        "theme.dark.borderColor": "#3B4651",
    }
)

#: Room for the strip that says "research use only", and a wider page than Streamlit's.
STYLE = """
<style>
  .stMainBlockContainer { padding: 3.6rem 2rem 4rem; max-width: 1800px; }
  .medfl-research {
    position: fixed; left: 0; right: 0; bottom: 0; z-index: 1000; padding: 0.3rem 2rem; text-align: center;
    background: #16202A; color: #FFFFFF; font-size: 0.9rem; letter-spacing: 0.02em;
  }
  [data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] p { color: inherit; opacity: 0.85; }
  .medfl-answer { border-left: 0.35rem solid; padding: 0.2rem 0 0.2rem 0.9rem; }
</style>
"""
