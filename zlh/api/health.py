"""/api/health: this process answers. /api/ready: what it needs answers too. Also where the API document is."""

from __future__ import annotations

import time

from quart import Response

from zlh.api.call import Call, json_response


async def health(call: Call) -> Response:
    services = call.services
    uptime = max(0, int(time.time() - services.started_at))
    return json_response({"status": "ok", "version": services.version, "uptimeSeconds": uptime})


async def ready(call: Call) -> Response:
    """503 while a part does not work, saying which and why."""
    found = await call.services.readiness()
    checks = {name: {"ok": problem is None, "problem": problem} for name, problem in found.items()}
    good = all(problem is None for problem in found.values())
    return json_response({"ready": good, "checks": checks}, 200 if good else 503)
