"""The same losses inside other people's programs: torch's names (`torch`)."""
