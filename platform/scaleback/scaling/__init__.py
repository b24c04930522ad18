"""From scores to laws: tables, intervals, fits, figures, the report. No torch, no Ray."""
