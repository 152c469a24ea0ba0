"""The faults, a module an area. Importing a module puts its faults on the list."""
