"""Is the server ready? The image's health check: exit code 0 is yes."""

import sys
from http.client import HTTPConnection

try:
    connection = HTTPConnection("127.0.0.1", 8000, timeout=4)
    connection.request("GET", "/v2/health/ready")
    sys.exit(connection.getresponse().status != 200)
except OSError as error:
    sys.exit(f"nothing answers on port 8000: {error}")
