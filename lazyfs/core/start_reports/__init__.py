"""Reports of what starts touched: their form, and the merge of many. Pure."""
