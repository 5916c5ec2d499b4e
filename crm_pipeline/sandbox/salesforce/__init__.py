"""The sandbox org: a simulated Salesforce over HTTP that imports nothing of ours."""
