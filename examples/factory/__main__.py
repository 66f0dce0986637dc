"""Serve the application with `python -m examples.factory`."""

import os

from . import create_app

create_app().run(port=int(os.environ.get("PORT", "5000")), use_reloader=False)
