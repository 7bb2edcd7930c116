"""Benches of the cloud side: on a real Kafka with the Quix runner, and on the SQLite log with the local one."""
