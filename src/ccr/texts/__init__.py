"""Third-party texts: read from files (`files`, `tables`) and cleaned (`cleaning`), the same way everywhere."""
