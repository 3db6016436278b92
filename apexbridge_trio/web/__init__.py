"""The edge over HTTP: decode, call one thing, encode; nothing else happens here.

`front.Front` is the ASGI application: it admits a request (`guards`), hands the chat endpoint to
`chat` and everything else to Quart (`api`), and writes the request's line in the log.
"""
