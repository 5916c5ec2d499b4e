"""From the CRM to the warehouse: pure logic over the connector and the warehouse."""
