-- One row per feed and session: its latest version that is not a tombstone, and its history.
select
    _versions.day,
    _versions.session_id,
    _versions.feed,
    _versions.precedence,
    _versions.created_at,
    _versions.updated_at,
    _versions.acus,
    _version_history.is_listed,
    _version_history.first_seen_at,
    _version_history.last_changed_at,
    _version_history.versions,
    _versions.payload
from _versions
inner join _version_history
    on
        _versions.day = _version_history.day
        and _versions.session_id = _version_history.session_id
        and _versions.feed = _version_history.feed
        and _versions.fetched_at = _version_history.latest_fetched_at
