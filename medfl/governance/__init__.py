"""What a site allows: margins, plans, budgets."""
