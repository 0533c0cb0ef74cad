-- The latest versions whose payload is no JSON, with what was made of it.
select latest_versions.* replace (mended_payloads.payload as payload)
from latest_versions
inner join mended_payloads using (feed, session_id)
