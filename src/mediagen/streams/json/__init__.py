"""JSON that arrives in pieces: fields found, base64 media decoded on the way, whole documents parsed within bounds."""
