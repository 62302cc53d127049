"""`python -m edge_node check`: what works and what does not, and what to do. One small file for each group of checks.

from edge_node.check import check

findings = asyncio.run(check(settings))
print(all(finding.mark is not Mark.FAIL for finding in findings))
"""

from edge_node.check.finding import Finding, Mark
from edge_node.check.run import check

__all__ = ["Finding", "Mark", "check"]
