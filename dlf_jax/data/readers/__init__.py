"""From files of any form to chunks of typed columns."""
