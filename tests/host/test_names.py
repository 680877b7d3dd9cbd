"""What accounts and keys may be called: one line of text, in any script, on both databases."""

import pytest
from tests.host.shape import check_shape
from tests.host.town import ADMIN_KEY, Town

from pinaivu_host.store.api_keys import digest_of_key, key_id_of

pytestmark = [pytest.mark.anyio, pytest.mark.every_database]


async def test_control_characters_in_names_are_422_and_change_nothing(town: Town) -> None:
    admin = town.client(ADMIN_KEY)
    keys = f"/admin/v1/accounts/{town.account_id}/keys"
    key = f"/admin/v1/keys/{key_id_of(digest_of_key(town.key))}"
    before = (await admin.get(keys)).json()
    for name in ("\0", "a\0b", "two\nlines", "a\tb", "\x1b[31mred", "\x7f", "\x85"):
        for method, path in (("POST", "/admin/v1/accounts"), ("POST", keys), ("PATCH", key)):
            answer = await admin.request(method, path, json={"name": name})
            body = check_shape(answer, 422, "invalid_request_error", "invalid_value")
            assert body["error"]["param"] == "name"
            assert "control characters" in body["error"]["message"]
    assert (await admin.get(keys)).json() == before
    assert len((await admin.get("/admin/v1/accounts")).json()["data"]) == 1


async def test_names_may_be_in_any_script(town: Town) -> None:
    admin = town.client(ADMIN_KEY)
    for name in ("Zoë's laptop", "研究室 ٣", "👩‍💻"):
        made = await admin.post("/admin/v1/accounts", json={"name": name})
        assert (await admin.get(f"/admin/v1/accounts/{made.json()['account_id']}")).json()["name"] == name
