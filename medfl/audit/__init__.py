"""From attacks to a verdict, a signed report and a gate."""
