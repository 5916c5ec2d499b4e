"""`python -m crm_pipeline.sandbox.salesforce`: a sandbox org on this machine.

Belongs here: the command line. Does not belong here: serving (running.py).
"""

import argparse
import sys
from pathlib import Path
from typing import get_args

from crm_pipeline.sandbox.salesforce.certificates import CertificateKind
from crm_pipeline.sandbox.salesforce.running import serve


def main() -> None:
    """Read the arguments and serve until interrupted."""
    parser = argparse.ArgumentParser(description="Serve a simulated Salesforce org on loopback.")
    parser.add_argument("--port", type=int, default=8089)
    parser.add_argument("--home", type=Path, help="keep the org here; without it, it is private")
    parser.add_argument("--records", type=int, default=20_000, help="records to invent at first")
    parser.add_argument(
        "--load", type=Path, action="append", default=[], help="sObject tree JSON or Object.csv"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--live-seconds", type=float, default=0.0, help="edit records this often")
    parser.add_argument(
        "--tls",
        nargs="?",
        const="good",
        default=False,
        choices=get_args(CertificateKind),
        help="HTTPS with a certificate of its own, or a wrong one",
    )
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--forget-past", action="store_true", help="keep no replaced versions")
    given = parser.parse_args()
    serve(
        given.home,
        given.port,
        records=given.records,
        seed=given.seed,
        live_seconds=given.live_seconds,
        tls=given.tls,
        tls_cert=given.tls_cert,
        tls_key=given.tls_key,
        keeps_past=not given.forget_past,
        load=given.load,
        announce=_announce,
    )


def _announce(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
