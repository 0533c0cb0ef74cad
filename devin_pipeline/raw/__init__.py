"""Raw assets: land what the API said, as versions that are only ever added.

Asking, comparing with what is known and validation before the commit belong here. What the payloads mean does not.
"""

from devin_pipeline.raw.asset_checks import raw_checks
from devin_pipeline.raw.sessions.assets import raw_assets
from devin_pipeline.raw.sessions.moved_sessions import days_held

__all__ = ["days_held", "raw_assets", "raw_checks"]
