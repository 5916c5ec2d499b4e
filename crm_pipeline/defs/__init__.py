"""The Dagster room: builders only, one file per Dagster noun."""
