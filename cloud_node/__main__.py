from cloud_node.cli import main

main()
