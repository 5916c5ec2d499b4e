"""From the warehouse to the CRM: what waits in the outbox is sent, once, safely."""
