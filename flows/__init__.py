"""Prefect flows over the library; installed as ragpool.flows."""
