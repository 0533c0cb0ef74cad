"""What all our Dagster assets share. What one layer of tables needs alone does not belong here."""
