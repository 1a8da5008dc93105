"""What the names of columns tell: identifiers, quantities, times, labels, people."""

from __future__ import annotations

import re


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Words that say that a value names a thing, where they end a column's name.
_IDENTIFIERS = _words(
    'id ids uid uuid guid gid cid pid sid key code hash type category cat cate class group kind status '
    'segment cluster flag zip zipcode postcode postal plz sku ean upc isbn gtin asin ssn icd naics sic '
    'iata phone ip imei cookie label version'
)
# Things that columns are called after, whose numbers are names too.
_THINGS = _words(
    'user item ad movie film product shop store seller buyer customer client visitor member session '
    'device campaign advertiser publisher creative site app page url query keyword song artist track '
    'video news article author book hotel city country state county region brand merchant vendor adgroup '
    'tag genre host domain browser os account passenger employee patient order ticket channel node slot '
    'model'
)
_QUANTITIES = _words(
    'price cost amount amt age count counts cnt num n number nr quantity qty score rate ratio percent '
    'percentage pct avg average mean median std sum total min max duration length len width height weight '
    'wgt size balance income salary wage revenue profit budget fee fare tax discount bid spend spent '
    'sales clicks views impressions visits purchases orders items days hours minutes seconds months years '
    'times distance speed temperature temp humidity pressure depth volume latitude longitude lat lon lng '
    'gain loss likes shares comments followers friends votes points popularity elapsed lag recency '
    'frequency tenure sqft year yob capital sibsp parch'
)
_CYCLES = _words('hour weekday dow wday dayofweek day month minute week quarter daytime season')
_TIMES = _words(
    'time timestamp ts datetime date dt hour day epoch unixtime created updated modified logged month '
    'period when dob birthday birthdate'
)
# Times of something else than the row, by which no split should go.
_OTHER_TIMES = _words(
    'birth birthday birthdate dob expiry expires expiration end until due signup registered registration '
    'joined release released updated modified last'
)
_PEOPLE = _words('user customer client visitor member session buyer passenger patient uid cookie device')

# Names of labels: those of an event or of the trade, then words that are features as often.
_LABELS = _words(
    'label click clicked clk target y converted conversion purchase purchased install installed bought '
    'buy subscribed attributed churn churned survived exited fraud response default defaulted approved '
    'attrition success outcome income class result deposit like liked'
)
# Those that say it among other words, too: `clicked_on_ad`, `default_payment_next_month`.
_SPEAKING = _words(
    'label click clicked target converted conversion purchased subscribed churn churned survived exited '
    'fraud default defaulted approved attrition'
)
# Those that become known with the click or after it, so that beside another label they are no features.
_EVENTS = _words(
    'label click clicked target converted conversion purchase purchased install installed bought'
)
# Values of a label that are the event.
_POSITIVE = _words(
    'click clicked buy bought purchase purchased converted conversion positive pos good success '
    'successful won win churn churned left exited installed install subscribed approved accepted default '
    'defaulted fraud survived alive like liked on active present high'
)
_ASKING = ('is', 'has', 'was', 'did')


def words(name: str) -> tuple[str, ...]:
    """The words of a name, in small letters: of `userId`, `user_id` and `User ID` they are user, id."""
    apart = re.sub(r'(?<=[a-z0-9])(?=[A-Z])', ' ', name)
    return tuple(re.findall(r'[a-z0-9]+', apart.lower()))


def identifier(name: str) -> bool:
    """Whether a name is one of names of things: `user`, `zip_code`, `itemid`."""
    found = words(name)
    if not found:
        return False
    last = found[-1]
    if last in _IDENTIFIERS or (last.endswith('id') and last[:-2] in _THINGS):
        return True
    return not quantity(name) and any(word in _THINGS or word in _IDENTIFIERS for word in found)


def quantity(name: str) -> bool:
    """Whether a name is one of what is counted or measured: `price`, `user_age`, `n_clicks`."""
    found = words(name)
    if not found or found[-1] in _IDENTIFIERS:
        return False
    # A row's number is none, unlike the number of rows.
    counted = found[:-1] if found[-1] in ('number', 'nr', 'num', 'no') else found
    return any(word in _QUANTITIES for word in counted)


def cycle(name: str) -> bool:
    """Whether a name is one of parts of the calendar that come again: `hour`, `day_of_week`."""
    return any(word in _CYCLES for word in words(name))


def year(name: str) -> bool:
    """Whether a name is that of years."""
    return any(word in ('year', 'yr', 'yob') for word in words(name))


def version(name: str) -> bool:
    """Whether a name is that of versions, of which 1.1 and 1.10 are two."""
    return any(word in ('version', 'ver', 'release') for word in words(name))


def time(name: str) -> bool:
    """Whether a name is that of moments: `timestamp`, `event_date`, `created_at`."""
    found = words(name)
    return bool(found) and (any(word in _TIMES for word in found) or found[-1] == 'at')


def time_of_row(name: str) -> bool:
    """Whether a time of that name may be that of the row, so that a split can go by it."""
    return not any(word in _OTHER_TIMES for word in words(name))


def person(name: str) -> bool:
    """Whether a name is that of users or sessions, which AUC can be averaged over."""
    found = words(name)
    return (
        bool(found) and identifier(name) and (found[0] in _PEOPLE or found[0].removesuffix('id') in _PEOPLE)
    )


def label_rank(name: str) -> int | None:
    """How likely a name is the label's, 0 the likeliest; None for names that are not known as labels'."""
    found = [word for word in words(name) if word not in _ASKING]
    if len(found) == 1 and found[0] in _LABELS:
        return _LABELS.index(found[0])
    ranks = [_LABELS.index(word) for word in found if word in _SPEAKING]
    other = any(word in _QUANTITIES and word not in _LABELS for word in found)
    if not ranks or other or (identifier(name) and found[-1] not in _SPEAKING):
        return None
    return len(_LABELS) + min(ranks)


def label_exactly(name: str) -> bool:
    """Whether a name is known as a label's and not only one that has such a word in it."""
    rank = label_rank(name)
    return rank is not None and rank < len(_LABELS)


def event(name: str) -> bool:
    """Whether a name is that of what is known only once the label is, such as `conversion`."""
    found = [word for word in words(name) if word not in _ASKING]
    return len(found) == 1 and found[0] in _EVENTS


def positive(value: str) -> bool:
    """Whether a value of a label is known to be that of a click, or of what else is to be predicted."""
    return any(word in _POSITIVE for word in words(value))
