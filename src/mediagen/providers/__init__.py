"""Who makes pictures and films: one small file a vendor, and a built-in one that needs neither key nor network."""
