"""The configuration as typed settings: one frozen class a section of conf/, checked all at once."""
