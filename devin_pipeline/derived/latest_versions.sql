-- One row per feed and session: its latest version that is not a tombstone, and its history.
select
    versions.day,
    versions.session_id,
    versions.feed,
    versions.precedence,
    versions.created_at,
    versions.updated_at,
    versions.acus,
    histories.is_listed,
    histories.first_seen_at,
    histories.last_changed_at,
    histories.versions,
    versions.payload
from versions
inner join histories
    on
        versions.day = histories.day
        and versions.session_id = histories.session_id
        and versions.feed = histories.feed
        and versions.fetched_at = histories.latest_fetched_at
