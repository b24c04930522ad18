"""S3 on this machine: moto's server, which keeps what it is given in memory."""

import http.client
import subprocess
import sys
import time
from pathlib import Path

PORT, UP_S, NAME = 5099, 60, "studies"


class Bucket:
    """One bucket. Who has ``environment`` reaches it as ``url``, the way to any server that is not Amazon's."""

    url = f"s3://{NAME}"

    def __init__(self, host):
        self._host = host
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{PORT}",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __enter__(self):
        words = [Path(sys.executable).parent / "moto_server", "-H", self._host, "-p", str(PORT)]
        self._server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        limit = time.monotonic() + UP_S
        while not self._made():
            assert time.monotonic() < limit, "moto's server did not start"
            time.sleep(0.2)
        return self

    def _made(self):
        connection = http.client.HTTPConnection(self._host, PORT, timeout=UP_S)
        try:
            connection.request("PUT", f"/{NAME}")
            return connection.getresponse().status == 200
        except ConnectionError:
            return False
        finally:
            connection.close()

    def __exit__(self, *_):
        self._server.terminate()
        self._server.wait(UP_S)
