"""The command line: `crm-pipeline`. A thin top floor over the engine's verbs and Dagster's jobs."""
