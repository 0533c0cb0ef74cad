-- Rules of money, for every reader: in whole micro-units, since a decimal that is divided becomes a double.

-- An equal share of an amount among `parts`; the part that takes the rest gets what the division leaves over.
create macro exact_share(amount, parts, takes_rest) as (
    (amount::decimal(38, 6) * 1000000)::hugeint // parts
    -- guard: what division leaves over | case when takes_rest -> case when false
    + case when takes_rest then (amount::decimal(38, 6) * 1000000)::hugeint % parts else 0 end
) * 0.000001;

-- An amount per part, rounded half up to six places; null for no part.
create macro exact_ratio(amount, parts) as (
    ((amount::decimal(38, 6) * 2000000)::hugeint + parts) // (2 * parts)
)::bigint * 0.000001;
