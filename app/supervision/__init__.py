"""What hub and site share: a folder with a settings file, and programs that are kept running in it."""
