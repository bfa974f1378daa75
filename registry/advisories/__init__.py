"""What is known to be wrong with versions of packages: imported, kept in one file, matched with packages."""
