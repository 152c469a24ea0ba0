"""Reports: one HTML file each, which opens anywhere and asks nobody for anything."""
