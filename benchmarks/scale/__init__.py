"""What a large repository costs a mount: 10,000 images, 10 million files, of which one image is entered."""
