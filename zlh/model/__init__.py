"""Plain types: values and pure functions that the whole product shares. Nothing here waits, reads or writes."""
