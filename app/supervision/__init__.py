"""Programs that are kept running: started again, ended together, one supervisor for each folder."""
