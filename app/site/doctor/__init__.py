"""What is wrong at a site and how to fix it: small checks with lasting names."""
