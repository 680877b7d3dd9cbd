"""The host's tables. The leaves are the truth; what is a projection says so and can be rebuilt from them.

Amounts are micro-USDC, times milliseconds since 1970. Types are those that SQLite and PostgreSQL share.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, LargeBinary, MetaData, String, Table, Text

METADATA: Final = MetaData()

ACCOUNTS: Final = Table(
    "accounts",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("credit_micro_usdc", BigInteger, nullable=False),  # projection: everything ever deposited
    Column("spent_micro_usdc", BigInteger, nullable=False),  # projection: charges of the account's receipts
    Column("created_ms", BigInteger, nullable=False),
    Index("accounts_by_age", "created_ms", "id"),
)

API_KEYS: Final = Table(
    "api_keys",
    METADATA,
    Column("key_sha256", LargeBinary(32), primary_key=True),
    Column("account_id", String(64), ForeignKey("accounts.id"), nullable=False, index=True),
    Column("label", Text, nullable=False),
    Column("prefix", String(12), nullable=False),  # to recognise a key by; the key itself is shown once
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger, nullable=True),
    Column("permission", String(16), nullable=False, server_default="full"),
    Column("models", Text, nullable=False, server_default="[]"),  # JSON list of those it may ask for; empty: all
    Column("expires_ms", BigInteger, nullable=True),
    Column("last_used_ms", BigInteger, nullable=True),  # to the minute
    Column("requests_per_minute", BigInteger, nullable=True),  # of these four, NULL is no limit
    Column("tokens_per_minute", BigInteger, nullable=True),
    Column("concurrent_requests", BigInteger, nullable=True),
    Column("monthly_budget_micro_usdc", BigInteger, nullable=True),
)

KEY_CHARGES: Final = Table(  # projection: charges of the receipts of each key, by the UTC month of their requests
    "key_charges",
    METADATA,
    Column("key_id", String(32), primary_key=True),
    Column("month_ms", BigInteger, primary_key=True, autoincrement=False),  # when it began
    Column("charged_micro_usdc", BigInteger, nullable=False),
)

LEAVES: Final = Table(
    "leaves",
    METADATA,
    Column("leaf_index", BigInteger, primary_key=True, autoincrement=False),
    Column("leaf", LargeBinary, nullable=False),
)

TREE_NODES: Final = Table(  # projection: every complete subtree, see pinaivu_shared.log.tree
    "tree_nodes",
    METADATA,
    Column("level", BigInteger, primary_key=True, autoincrement=False),
    Column("node_index", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(32), nullable=False),
)

CHECKPOINTS: Final = Table(
    "checkpoints",
    METADATA,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
)

CONFIGURATIONS: Final = Table(  # projection of configuration leaves
    "configurations",
    METADATA,
    Column("digest", String(80), primary_key=True),
    Column("leaf_index", BigInteger, nullable=False),
    Column("configuration", LargeBinary, nullable=False),
)

EPOCHS: Final = Table(  # projection of epoch leaves
    "epochs",
    METADATA,
    Column("attestation", String(80), primary_key=True),  # digest of the document
    Column("leaf_index", BigInteger, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("configuration", String(80), nullable=False),  # digest
)

RECEIPTS: Final = Table(  # projection of receipt leaves, but for the salt and the key, which are in no leaf
    "receipts",
    METADATA,
    Column("request_id", String(40), primary_key=True),
    Column("leaf_index", BigInteger, nullable=False, unique=True),
    Column("account_id", String(64), nullable=True),
    Column("salt", LargeBinary(32), nullable=True),
    Column("key_id", String(32), nullable=True),  # the API key that asked
    Column("charge_micro_usdc", BigInteger, nullable=False),
    Column("payment_micro_usdc", BigInteger, nullable=True),  # NULL: of a version that did not keep it
    Column("model", Text, nullable=False),
    Column("node_id", String(64), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("transcript", String(80), nullable=False),  # digest
    Column("node_proof", String(80), nullable=False),  # digest, or empty
    Column("attestation", String(80), nullable=False),  # digest
    Column("created_ms", BigInteger, nullable=False),
    Index(  # all that lists look through and usage sums
        "receipts_of_account",
        "account_id",
        "created_ms",
        "request_id",
        "leaf_index",
        "model",
        "outcome",
        "prompt_tokens",
        "completion_tokens",
        "charge_micro_usdc",
        "key_id",
    ),
    Index("receipts_of_node", "node_id", "leaf_index"),
)

TRANSCRIPTS: Final = Table(
    "transcripts",
    METADATA,
    Column("digest", String(80), primary_key=True),
    Column("transcript", LargeBinary, nullable=False),
)

NODE_PROOFS: Final = Table(  # those that receipts and suspensions name
    "node_proofs",
    METADATA,
    Column("digest", String(80), primary_key=True),
    Column("payload", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

ORDERS: Final = Table(  # the outbox: what the operator signed, until it is a leaf or refused for good
    "orders",
    METADATA,
    Column("reference", String(128), primary_key=True),
    Column("payload", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("leaf_index", BigInteger, nullable=True),  # projection of order leaves
    Column("refusal", Text, nullable=True),
    Index("orders_by_leaf", "leaf_index"),
)

NODES: Final = Table(  # projection of registration leaves
    "nodes",
    METADATA,
    Column("node_id", String(64), primary_key=True),
    Column("operator", Text, nullable=False),  # of the newest leaf
    Column("registered_ms", BigInteger, nullable=False),  # of the first
)

STATEMENTS: Final = Table(  # projection of statement leaves
    "statements",
    METADATA,
    Column("node_id", String(64), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("leaf_index", BigInteger, nullable=False),
    Column("amount_micro_usdc", BigInteger, nullable=False),
    Column("payable_micro_usdc", BigInteger, nullable=False),  # what the node had to get after this statement
    Column("period_start_ms", BigInteger, nullable=False),
    Column("period_end_ms", BigInteger, nullable=False),
)

SUSPENSIONS: Final = Table(  # projection of suspension leaves
    "suspensions",
    METADATA,
    Column("leaf_index", BigInteger, primary_key=True, autoincrement=False),
    Column("node_id", String(64), nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("request_id", String(40), nullable=False),
    Column("suspended_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
)

MODELS: Final = Table(  # when each model was first offered here, which `created` of /v1/models shows
    "models",
    METADATA,
    Column("model", String(255), primary_key=True),
    Column("first_quoted_ms", BigInteger, nullable=False),
)

SEALED_VAULTS: Final = Table(  # what KMS needs to give an enclave its vault secret again; lost, the log cannot go on
    "sealed_vaults",
    METADATA,
    Column("origin", String(255), primary_key=True),  # of the log
    Column("sealed", LargeBinary, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

IDEMPOTENCY_KEYS: Final = Table(  # for a day: which job an `Idempotency-Key` began, and the answer if it came to one
    "idempotency_keys",
    METADATA,
    Column("account_id", String(64), primary_key=True),
    Column("key_sha256", LargeBinary(32), primary_key=True),
    Column("body_sha256", LargeBinary(32), nullable=False),
    Column("request_id", String(40), nullable=False, unique=True),
    Column("salt", LargeBinary(32), nullable=False),
    Column("key_id", String(32), nullable=True),  # the API key that began the job
    Column("begun_ms", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),  # of the answer
    Column("answer", LargeBinary, nullable=True),
    Index("idempotency_keys_of_account", "account_id", "begun_ms", "size_bytes"),
    Index("idempotency_keys_by_age", "begun_ms"),
)
