"""`/admin/v1`: the operator's own endpoints, under the admin key."""
