"""Stage `report`: merge all results into one page, figures and `results.json`."""
