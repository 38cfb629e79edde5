"""How fast the method is, beside what else there is. Every program here runs alone and is imported
by the others."""
