-- One row per feed and version of a session.
select
    *,
    'raw_session_insights_v3' as feed,
    1 as precedence
from raw_session_insights_v3
union all by name
select
    *,
    'raw_sessions_v3' as feed,
    2 as precedence
from raw_sessions_v3
union all by name
select
    *,
    'raw_session_insights_v2' as feed,
    3 as precedence
from raw_session_insights_v2
