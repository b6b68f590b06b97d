"""How pictures look, whatever they show: fonts for any script, colours, and files written whole."""
