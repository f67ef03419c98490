"""One volume or picture with its masks, shown in the browser; nothing is asked of another machine."""
