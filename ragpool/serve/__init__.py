"""The chat endpoint: an OpenAI-compatible server, a page that shows the pool filling, and MCP.

A thin layer over ``ragpool.sdk.RagPool`` and the pipeline's events; nothing of the loop is written again here.
"""
