"""The Streamlit dashboard: what clinicians and privacy officers look at."""
