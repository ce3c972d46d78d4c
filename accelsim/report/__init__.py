"""Tables and pictures of results; knows no formula."""
