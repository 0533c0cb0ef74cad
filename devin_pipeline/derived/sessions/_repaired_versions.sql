-- The latest versions whose payload is not JSON, with what was made of it.
select _latest_versions.* replace (_repaired_payloads.payload as payload)
from _latest_versions
inner join _repaired_payloads using (feed, session_id)
