"""Wire formats shared by both planes: HTTP/1.1 heads and websocket frames, as pure codecs."""
