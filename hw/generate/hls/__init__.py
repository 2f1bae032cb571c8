"""C++ that goes into HLS projects."""
