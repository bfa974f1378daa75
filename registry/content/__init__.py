"""What is stored: uploads, blobs, manifests, tags and their history."""
