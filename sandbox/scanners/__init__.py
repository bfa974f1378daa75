"""What an image holds, told from its files: packages, secrets, malware, misconfiguration, licences."""
