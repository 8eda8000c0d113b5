"""Values and pure rules, which import nothing of the house."""
